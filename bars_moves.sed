s/\bkronos\.bars\.transform\.common\b/kronos.bars.transform.base/g

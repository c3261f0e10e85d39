"""``python -m kronos.cli``: the command as a module, for launchers such as torchrun."""

import sys

from kronos.cli import main

sys.exit(main())

"""What the commands do, as public functions: forecast a universe, fine-tune, evaluate, calibrate, backtest.

Each joins the rooms below it and returns plain results; ``kronos.cli`` parses, calls one of them and prints.
"""

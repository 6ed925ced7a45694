"""How fast fusion, start-up and training are on this machine.

Each section is a module: `fusing`, `startup`, `growth`, `training` and `goal`; `machine`
tells what they were measured on. They print nothing.
"""

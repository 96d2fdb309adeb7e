"""The declaration of a sweep: its arguments or its file, checked, frozen, and held against an earlier one.

spec        a sweep as declared, and whether it fits `compute`
arguments   what each key may hold
points      configurations to try first
early_stop  which pruner ends trials early
file        sweep files, ours and W&B's
yaml_lines  YAML with the line of every key
change      what a second declaration of the same name changes
"""

__all__: list[str] = []

"""Search spaces: the functions a person writes them with, the domains they make, and other libraries' forms.

functions  choice, uniform, ... and what reads a space
domain     one parameter's values: canonical, drawn from by quantile
admission  whether a value that a person wrote is one of a domain's
beta       the quantile of the beta distribution
foreign    Optuna distributions and Ray Tune objects, taken as they are
wandb      the parameters of a W&B sweep file
"""

__all__: list[str] = []

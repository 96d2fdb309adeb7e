"""A node: the long-lived processes on one machine, and what their clients use to reach them.

launch       starts a node's supervisor under its guard
supervisor   the supervisor's process, whatever its role
head         the head: hub, provider, Ray's head, the engine
joiner       a joiner: the tunnel's agent, and Ray while it is a node
mesh_watch   the head's side of every joiner's life
self_test    can everyone dial what everyone needs?
ray_command  the arguments and environment of Ray
ray_process  Ray's processes as one thing
lifeline     no child outlives its parent
control      the local socket between a supervisor and its clients
data_dir     what a head keeps on disk
keeping      the head's snapshots: restored before it, taken while it runs
kept_folder  the process that works in the folder they are in
trial_sign   what each slot of this machine runs
status       the cluster's state as JSON
capacity     CPUs and GPUs of this machine
versions     what must agree across a cluster
"""

__all__: list[str] = []

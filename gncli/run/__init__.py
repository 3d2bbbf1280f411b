"""Running a plan: on threads of this process, or on a cluster."""

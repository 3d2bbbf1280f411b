"""Who carries a plan out: threads of this process, or a cluster."""

"""Rate limits: one token bucket a principal, in this process or shared by all."""

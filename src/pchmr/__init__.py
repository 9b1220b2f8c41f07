"""Human mesh recovery for people whose images must not leave their device."""

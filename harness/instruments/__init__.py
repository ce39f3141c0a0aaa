"""One file for each instrument; instruments do not depend on models or workloads."""

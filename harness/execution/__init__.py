"""Runs workloads in processes of their own and keeps what they say."""

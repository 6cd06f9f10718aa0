"""What there is to solve: environments, their data, and the published scores.

It stands where a package of yours would: the rest of nfrl finds it by its entry points and never
imports it.
"""

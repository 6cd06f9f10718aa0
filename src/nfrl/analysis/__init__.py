"""Speed, beside what it is to be measured against; modes found, and confidence.

Every comparison of speeds is made in one run, its sides in turn, so that a machine whose speed
drifts does not favour one of them.
"""

"""The trackers that come with this package, one a file; see :mod:`nfrl.interfaces.tracker`."""

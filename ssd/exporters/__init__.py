"""Writers of compiled models, a format each."""

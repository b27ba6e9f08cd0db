"""Writers of tiny data sets in exactly the published layouts."""

"""SWE-Features: which files does a pull request change? Datasets from git histories, and experiment E7 on them."""

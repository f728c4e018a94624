"""One file per published system; the registry finds them by listing this folder."""

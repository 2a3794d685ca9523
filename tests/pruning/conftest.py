"""Its place puts this folder on the path, so that the folders below find small_nets."""

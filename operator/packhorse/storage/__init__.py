"""The linked storage account: the one place that holds its credential."""

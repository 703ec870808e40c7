"""Everything that checks Packhorse: unit tests, end-to-end tests, and the cluster that those run on."""

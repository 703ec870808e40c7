"""Installing a package on a node, against what people do today: ``python -m benchmarks.install``.

Three packages, served by a real Azurite on this machine over HTTPS, are installed by Packhorse, by ``curl`` and
``unzip``, and by Azure's storage SDK and ``zipfile``: in turns, in the same run, each in a process of its own.
"""

#!/usr/bin/env python3
"""The guide's script: collect, check, simulate, snapshot. A thin call of the command line."""

import sys

from movie_mlops.cli.main import main

sys.argv[1:1] = ["run", "data_collection"]
main()

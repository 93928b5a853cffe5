#!/usr/bin/env python3
"""The guide's script: train, evaluate, register, roll out. A thin call of the command line."""

import sys

from movie_mlops.cli.main import main

sys.argv[1:1] = ["run", "training", "rollout", "rating_training", "rollout"]
main()

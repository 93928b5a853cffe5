"""python -m movie_mlops."""

from movie_mlops.cli.main import main

if __name__ == "__main__":
    main()

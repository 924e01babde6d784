"""`python -m imagegenx`."""

from imagegenx.cli.main import main

if __name__ == "__main__":
    main()

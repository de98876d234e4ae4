"""`python -m thalweg.cli`."""

from thalweg.cli.main import app

if __name__ == "__main__":
    app()

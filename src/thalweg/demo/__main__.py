"""`python -m thalweg.demo`."""

from thalweg.demo.command import demo

if __name__ == "__main__":
    import typer

    typer.run(demo)

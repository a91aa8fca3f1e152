"""python -m tinymetafed"""

from .cli import main

main()

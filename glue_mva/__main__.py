from glue_mva.cli import main

main()

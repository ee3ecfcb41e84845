from swe_srl.cli import main

if __name__ == "__main__":
    main()

"""The command `colo-bridge`: one module for each group of subcommands."""

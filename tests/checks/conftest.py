"""Leave out the scripts with faults, which the tests run one by one."""

collect_ignore_glob = ["cases/*"]

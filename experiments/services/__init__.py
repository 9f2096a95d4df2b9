"""All writes. Views, admin actions, tasks and commands are thin and call these modules."""

//! Typed proxies of poold's D-Bus interfaces, for poolctl, tests and other programs.

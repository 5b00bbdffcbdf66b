//! Hosts: what a host list says.

//! Endpoints against hostile servers.

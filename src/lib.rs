//! lib
pub mod balancer;
pub mod config;

//! lib
pub mod balancer;

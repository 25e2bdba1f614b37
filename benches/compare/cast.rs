//! Who takes part in this run: found, or built, before anything starts.

use std::path::PathBuf;

use crate::{
    contestant::{Contestant, Presence},
    failure::Failure,
    plan::Plan,
    tool,
    workload::Workload,
};

/// A contestant and its program.
pub(crate) struct Member {
    pub(crate) contestant: &'static Contestant,
    pub(crate) program: PathBuf,
}

/// Finds the programs of all that shall take part. Peers that are not there are named and left out.
pub(crate) fn gather(plan: &Plan) -> Result<Vec<Member>, Failure> {
    install_tools(plan)?;
    let mut cast = Vec::new();
    for contestant in &plan.contestants {
        match contestant.locate(&plan.programs) {
            Ok(program) => cast.push(Member { contestant, program }),
            Err(failure) if contestant.presence == Presence::Welcome => {
                eprintln!("without {}: {failure}", contestant.name);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(cast)
}

/// Debian's own peers and, for HTTP/2, h2load.
fn install_tools(plan: &Plan) -> Result<(), Failure> {
    let peers = plan.contestants.iter().map(|it| it.program);
    let peers = peers.filter(|it| ["haproxy", "nginx"].contains(it)).map(|it| (it, it));
    let h2load = plan.workloads.contains(&Workload::Http2).then_some(("h2load", "nghttp2-client"));
    let needed: Vec<(&str, &str)> =
        peers.chain(h2load).filter(|(program, _)| !plan.programs.contains_key(*program)).collect();
    tool::install_missing(&needed)
}

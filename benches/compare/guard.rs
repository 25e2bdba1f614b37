//! Ends our processes even if we are killed before we can.
//!
//! A shell reads the process groups we start from a pipe. The kernel closes our end of that pipe however we end, and
//! the shell then kills the groups that are still on its list: those and no others.

use std::{
    cell::RefCell,
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use crate::failure::{Context, Failure};

const SCRIPT: &str = r#"
groups=
while read -r verb group; do
    left=
    for it in $groups; do [ "$it" = "$group" ] || left="$left $it"; done
    groups=$left
    [ "$verb" = started ] && groups="$groups $group"
done
for it in $groups; do kill -s KILL -- "-$it"; done
"#;

/// The watching shell. Dropping it lets it do its last duty, and waits for that.
pub(crate) struct Guard {
    shell: RefCell<Child>,
}

impl Guard {
    pub(crate) fn start() -> Result<Self, Failure> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT])
            // Ctrl-C in a terminal goes to a whole process group; the guard must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| "cannot start `sh` to guard the processes of the comparison".to_owned())?;
        Ok(Self { shell: RefCell::new(shell) })
    }

    pub(crate) fn started(&self, group: u32) {
        self.tell("started", group);
    }

    pub(crate) fn ended(&self, group: u32) {
        self.tell("ended", group);
    }

    fn tell(&self, verb: &str, group: u32) {
        if let Some(pipe) = &mut self.shell.borrow_mut().stdin {
            // A guard that is gone cannot be told; the normal way of ending does not need it.
            let _ = writeln!(pipe, "{verb} {group}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shell = self.shell.get_mut();
        drop(shell.stdin.take());
        let _ = shell.wait();
    }
}

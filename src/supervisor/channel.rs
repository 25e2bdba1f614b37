//! The line between the supervisor and one worker: whole messages, each with a descriptor if need be.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, in bytes. The longest is a report of mistakes in a file, cut to half of this.
pub const MESSAGE_BYTES_MAX: usize = 128 << 10;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message, with the descriptor that came with it.
pub type Received<M> = (M, Option<OwnedFd>);

impl Channel {
    /// Makes both ends.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (one, other) = socketpair(unix, packets, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with, as its standard input.
    ///
    /// # Errors
    /// When standard input cannot be duplicated.
    pub fn inherited() -> io::Result<Self> {
        io::stdin().as_fd().try_clone_to_owned().map(Self)
    }

    /// The end as a descriptor, to start a process with.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends a message, and a descriptor with it. Never waits: an end that reads nothing for so long
    /// that its buffer is full is as good as gone.
    ///
    /// # Errors
    /// When the other end is gone, or its buffer is full.
    pub fn send(&self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// The next message; `None` when the other end is gone. Waits for one.
    ///
    /// # Errors
    /// When the message makes no sense.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<Received<M>>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptor = fds.last().or(descriptor);
            }
        }
        Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, descriptor)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_carries_a_descriptor() {
        let (one, other) = Channel::pair().unwrap();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        one.send(&"take this", Some(far.as_fd())).unwrap();
        drop(far);
        one.send(&"and no more", None).unwrap();
        let (text, fd) = other.receive::<String>().unwrap().unwrap();
        assert_eq!(text, "take this");
        std::os::unix::net::UnixStream::from(fd.unwrap()).write_all(b"hello").unwrap();
        let mut read = String::new();
        near.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
        let (text, fd) = other.receive::<String>().unwrap().unwrap();
        assert_eq!((text.as_str(), fd.is_none()), ("and no more", true));
    }

    #[test]
    fn an_end_that_is_gone_is_told() {
        let (one, other) = Channel::pair().unwrap();
        drop(one);
        assert!(other.receive::<String>().unwrap().is_none());
        assert!(other.send(&"anyone?", None).is_err());
    }

    #[test]
    fn a_full_line_makes_nobody_wait() {
        let (one, _other) = Channel::pair().unwrap();
        let sent = (0..100_000).take_while(|_| one.send(&"more", None).is_ok()).count();
        assert!(sent < 100_000);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&7, None).unwrap();
        assert!(other.receive::<String>().is_err());
    }
}

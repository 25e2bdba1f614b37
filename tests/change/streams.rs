//! WebSockets: as many upgraded connections, each of which echoes now and then.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::Dice;
use crate::figures::{Cut, unix_ms};
use crate::harness::Jar;
use crate::load::{Shared, Shown};
use crate::wire::{Failure, Trouble, Wire};

/// Holds one WebSocket, and another one with the same cookie when it is ended.
pub(crate) fn hold(shared: &Shared, name: &str, number: usize, shown: &Shown) {
    let figures = &shared.figures;
    let mut dice = Dice(1_000 + number as u64);
    let (mut jar, mut pin) = (Jar::default(), None);
    while !shared.is_over() {
        let begun = unix_ms();
        match open(shared, &mut jar, &mut pin, name) {
            Ok(wire) => {
                shown.home.lock().unwrap().clone_from(&pin);
                figures.upgrades.fetch_add(1, Ordering::SeqCst);
                figures.streams.fetch_add(1, Ordering::SeqCst);
                if let Err(error) = converse(shared, wire, &mut dice, name) {
                    shown.lost.fetch_add(1, Ordering::SeqCst);
                    figures.cut(Cut {
                        client: name.to_owned(),
                        home: pin.clone().unwrap_or_default(),
                        begun,
                        ended: unix_ms(),
                        how: error.to_string(),
                    });
                }
            }
            Err(failure) => {
                shown.lost.fetch_add(1, Ordering::SeqCst);
                figures.failed(&failure, name);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn open(
    shared: &Shared,
    jar: &mut Jar,
    pin: &mut Option<String>,
    name: &str,
) -> Result<Wire, Failure> {
    let mut wire = Wire::connect(shared.address)?;
    shared.figures.connections.fetch_add(1, Ordering::SeqCst);
    let response = wire.exchange(&format!(
        "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        jar.header()
    ))?;
    if response.status != 101 {
        let text = format!("no upgrade: {response:?}");
        return Err(Failure { trouble: Trouble::Status, answered: true, text });
    }
    jar.take(&response);
    shared.judge(name, pin, response.header("x-backend").unwrap_or_default());
    Ok(wire)
}

/// Echoes until the load is over. An error: the stream was ended.
fn converse(shared: &Shared, mut wire: Wire, dice: &mut Dice, name: &str) -> io::Result<()> {
    for turn in 0_u64.. {
        if shared.is_over() {
            break;
        }
        if !wire.echo(&turn.to_be_bytes())? {
            shared.figures.fail(Trouble::Strange, || format!("{name}: another echo"));
        }
        shared.figures.echoes.fetch_add(1, Ordering::SeqCst);
        // The pause notices the end of the stream.
        let pause = Duration::from_millis(100 + dice.roll(200) as u64);
        wire.stream.set_read_timeout(Some(pause))?;
        match wire.reader.read(&mut [0]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(_) => shared.figures.fail(Trouble::Strange, || format!("{name}: unasked bytes")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

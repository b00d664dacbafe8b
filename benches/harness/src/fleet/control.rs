//! Asks a server of this package what its `control` tells.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::BoxError;

/// A connection.
#[derive(Debug)]
pub struct Control(BufReader<TcpStream>);

/// Tags that were invalidated.
#[derive(Clone, Copy, Debug)]
pub struct Stormed {
    /// How many.
    pub count: f64,
    /// Microseconds that one took: the median.
    pub median_micros: f64,
    /// What 99 % did not exceed.
    pub slow_micros: f64,
}

impl Control {
    /// To the server that has this control.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn connect(address: &str) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// How often the handler was called.
    ///
    /// # Errors
    ///
    /// If it doesn't say so.
    pub fn calls(&mut self) -> Result<u64, BoxError> {
        Ok(self.say("calls")?.parse()?)
    }

    /// Begins to invalidate so many a second, of so many tags in turn.
    ///
    /// # Errors
    ///
    /// If it doesn't listen.
    pub fn storm(&mut self, rate: u32, tags: u64) -> Result<(), BoxError> {
        self.say(&format!("storm {rate} {tags}"))?;
        Ok(())
    }

    /// Ends that.
    ///
    /// # Errors
    ///
    /// If nothing has begun.
    pub fn stop(&mut self) -> Result<Stormed, BoxError> {
        let answer = self.say("stop")?;
        let figures: Vec<f64> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [count, median_micros, slow_micros] = figures[..] else {
            return Err(format!("it says {answer:?} of a storm").into());
        };
        Ok(Stormed { count, median_micros, slow_micros })
    }

    fn say(&mut self, line: &str) -> Result<String, BoxError> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        if !answer.ends_with('\n') {
            return Err(format!("{line}: it has broken off").into());
        }
        Ok(answer.trim_end().to_owned())
    }
}

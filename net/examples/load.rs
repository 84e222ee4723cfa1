//! Unary load on a gRPC server, and what a call costs the server in CPU time.
//!
//! `cargo run --release -p plinth-net --example load -- ADDRESS SERVER_PID [CONNECTIONS] [STREAMS] [SECONDS] [BODY] [FIELDS]`
//!
//! The client is raw on purpose: it writes ready-made frames and only looks for the ends of streams, so that it costs
//! less than the server it measures. Every stream that ends is replaced by a new one; all that end in one read are
//! replaced by one write. FIELDS is `fixed` (the same header block every time, as h2 and tonic send it) or `timeout`
//! (a `grpc-timeout` that differs from call to call and enters the dynamic table, as Go clients send it).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// When the client returns credit for what it has read.
const CREDIT_STEP: u32 = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    Fixed,
    Timeout,
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn put_literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x40);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

/// The fields of the first request; they enter the dynamic table.
fn first_block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    put_literal(&mut block, ":path", "/echo.Echo/Unary");
    put_literal(&mut block, ":authority", "127.0.0.1:2379");
    put_literal(&mut block, "content-type", "application/grpc");
    put_literal(&mut block, "user-agent", "grpc-go/1.79.1");
    put_literal(&mut block, "te", "trailers");
    block
}

struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    body: Vec<u8>,
    fields: Fields,
    next_stream: u32,
    /// `grpc-timeout` fields sent, which all enter the table and push the others back.
    timeouts: u32,
    read_bytes: u32,
}

impl Client {
    fn put_request(&mut self) {
        let mut block = if self.next_stream == 1 {
            first_block()
        } else {
            // The five fields of the first request, as far back as the timeouts have pushed them.
            let mut block = vec![0x83, 0x86];
            for place in (0..5).rev() {
                put_index(&mut block, 62 + self.timeouts + place);
            }
            block
        };
        if self.fields == Fields::Timeout {
            // A table of 4096 bytes holds some eighty of them beside the other fields; before it overflows the
            // fields are sent anew.
            if self.timeouts == 60 {
                block = first_block();
                self.timeouts = 0;
            }
            put_literal(&mut block, "grpc-timeout", &format!("{}u", 4_900_000 + self.next_stream % 99_999));
            self.timeouts += 1;
        }
        put_frame(&mut self.out, HEADERS, END_HEADERS, self.next_stream, &block);
        put_frame(&mut self.out, DATA, END_STREAM, self.next_stream, &self.body);
        self.next_stream += 2;
    }

    async fn run(mut self, streams: usize, calls: Arc<AtomicU64>) -> std::io::Result<()> {
        self.out.extend_from_slice(PREFACE);
        put_frame(&mut self.out, SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        put_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &(CREDIT_STEP * 16).to_be_bytes());
        for _ in 0..streams {
            self.put_request();
        }
        let mut input = Vec::with_capacity(64 << 10);
        loop {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
            let read = self.stream.read_buf(&mut input).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let (ended, used) = self.scan(&input);
            input.drain(..used);
            calls.fetch_add(ended, Ordering::Relaxed);
            for _ in 0..ended {
                self.put_request();
            }
        }
    }

    /// Counts streams that ended, and says how much of the input was whole frames.
    fn scan(&mut self, input: &[u8]) -> (u64, usize) {
        let (mut at, mut ended) = (0, 0);
        while let Some(header) = input.get(at..at + FRAME_HEADER_BYTES) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let Some(payload) = input.get(at + FRAME_HEADER_BYTES..at + FRAME_HEADER_BYTES + length) else { break };
            match header[3] {
                HEADERS if header[4] & END_STREAM != 0 => ended += 1,
                DATA => self.read_bytes += length as u32,
                SETTINGS if header[4] == 0 => put_frame(&mut self.out, SETTINGS, 1, 0, &[]),
                GOAWAY => panic!("the server says goodbye: {}", payload.escape_ascii()),
                _ => {}
            }
            at += FRAME_HEADER_BYTES + length;
        }
        if self.read_bytes >= CREDIT_STEP {
            put_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.read_bytes.to_be_bytes());
            self.read_bytes = 0;
        }
        (ended, at)
    }
}

fn put_index(block: &mut Vec<u8>, index: u32) {
    if index < 127 {
        block.push(0x80 | index as u8);
    } else {
        block.extend_from_slice(&[0xff, (index - 127) as u8]);
    }
}

/// User and system time of a process so far.
fn cpu_times(pid: &str) -> Result<(Duration, Duration), Box<dyn Error>> {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| -> Result<Duration, Box<dyn Error>> {
        Ok(Duration::from_millis(fields[place].parse::<u64>()? * 1000 / TICKS_PER_SECOND))
    };
    Ok((ticks(11)?, ticks(12)?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| args.get(place).map_or(Ok(default), |text| text.parse());
    let (address, pid) = (args.first().ok_or("no address")?, args.get(1).ok_or("no process id")?);
    let (connections, streams, seconds) = (number(2, 100)?, number(3, 10)?, number(4, 5)?);
    let message = vec![b'x'; number(5, 64)?];
    let fields = if args.get(6).is_some_and(|text| text == "timeout") { Fields::Timeout } else { Fields::Fixed };
    let body = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let client =
            Client { stream, out: Vec::new(), body: body.clone(), fields, next_stream: 1, timeouts: 0, read_bytes: 0 };
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            if let Err(error) = client.run(streams, calls).await {
                eprintln!("connection lost: {error}");
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (start, calls_before, before) = (Instant::now(), calls.load(Ordering::Relaxed), cpu_times(pid)?);
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let (calls, after) = (calls.load(Ordering::Relaxed) - calls_before, cpu_times(pid)?);
    let elapsed = start.elapsed().as_secs_f64();
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    let (user, system) = (per_call(after.0 - before.0), per_call(after.1 - before.1));
    println!(
        "{connections} x {streams}: {:.0} calls/s, {:.2} us CPU per call ({user:.2} user, {system:.2} system), \
         server {:.0} % busy",
        calls as f64 / elapsed,
        user + system,
        (user + system) * calls as f64 / elapsed / 1e4,
    );
    Ok(())
}

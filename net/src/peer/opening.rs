//! What is read before a lane is open, by either side: bytes until an opening is complete.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;

use super::lane_task::ConnectionError;
use super::wire::WireError;
use crate::server::ReadBuffer;
use crate::transport::{Stream, Transport};

/// Reads the opening that begins with `read`, and what came with it.
pub(super) async fn read_opening<T>(
    stream: &mut Stream,
    buffer: &RefCell<ReadBuffer>,
    mut read: Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, WireError>,
) -> Result<(T, Bytes), ConnectionError> {
    loop {
        if let Some((opening, length)) = decode(&read)? {
            return Ok((opening, Bytes::from(read.split_off(length))));
        }
        read.extend_from_slice(&read_some(stream, buffer).await?);
    }
}

/// What has arrived, at least a byte.
pub(super) async fn read_some(stream: &mut Stream, buffer: &RefCell<ReadBuffer>) -> Result<Bytes, ConnectionError> {
    poll_fn(|cx| {
        let mut buffer = buffer.borrow_mut();
        match stream.poll_read(cx, buffer.room()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ConnectionError::Ended)),
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(buffer.take(count))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        }
    })
    .await
}

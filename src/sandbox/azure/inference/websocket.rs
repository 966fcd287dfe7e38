//! A WebSocket (RFC 6455) that says back what it hears.

use std::io;

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest message.
const LONGEST: usize = 1024 * 1024;

/// Switches protocols and echoes until the other side closes.
pub fn echo(mut request: Request) -> Response {
    let headers = request.headers();
    let has = |name: header::HeaderName, token: &str| {
        let values = headers.get_all(name);
        values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")]).into_response();
    }
    let Some(accept) = accept(headers) else { return StatusCode::BAD_REQUEST.into_response() };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // An error is the other side's hang-up.
        if let Ok(upgraded) = upgrade.await {
            let _ = converse(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The proof that the handshake was read (RFC 6455 section 4.2.2).
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    if headers.get(header::SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    STANDARD.encode(digest).parse().ok()
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let length = stream.read_u8().await?;
        let long = match length & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        let long = usize::try_from(long).unwrap_or(usize::MAX);
        // Clients mask (section 5.1).
        if length & 0x80 == 0 || long > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut mask = [0_u8; 4];
        stream.read_exact(&mut mask).await?;
        let mut payload = vec![0_u8; long];
        stream.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
            *byte ^= mask;
        }
        let opcode = first & 0x0f;
        let answer = match opcode {
            // Text, binary and continuations go back as they came; a close is confirmed.
            0x0 | 0x1 | 0x2 | 0x8 => first,
            // A ping is answered by a pong.
            0x9 => 0x8a,
            _ => continue,
        };
        let mut frame = vec![answer];
        match u16::try_from(long) {
            Ok(short) if short < 126 => frame.push(u8::try_from(short).unwrap_or_default()),
            Ok(medium) => {
                frame.push(126);
                frame.extend(medium.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        stream.write_all(&frame).await?;
        stream.flush().await?;
        if opcode == 0x8 {
            return stream.shutdown().await;
        }
    }
}

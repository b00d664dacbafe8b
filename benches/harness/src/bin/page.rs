//! A page on hyper's server, with one thread: `page KIND ADDRESS`.
//!
//! | kind | what it is |
//! | --- | --- |
//! | `bare` | the handler |
//! | `cache` | tower-keep's `CacheLayer` around it |
//! | `forms` | the same, which keeps compressed forms |
//! | `each` | tower-keep's `CompressLayer`, which compresses each response |
//! | `tower-http` | tower-http's `CompressionLayer`, which does so as well |

use harness::BoxError;
use harness::page::{Pages, cache, compress};
use harness::serve::serve;
use tokio::net::TcpListener;
use tower::Layer;
use tower_http::compression::CompressionLayer;

/// nginx brings an allocator of its own, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address] = &arguments[..] else { return Err("page KIND ADDRESS".into()) };
    let listener = TcpListener::bind(address).await?;
    let handler = Pages::new()?.handler();
    match kind.as_str() {
        "bare" => serve(listener, handler).await,
        "cache" => serve(listener, cache(false)?.layer(handler)).await,
        "forms" => serve(listener, cache(true)?.layer(handler)).await,
        "each" => serve(listener, compress()?.layer(handler)).await,
        "tower-http" => serve(listener, CompressionLayer::new().layer(handler)).await,
        _ => Err("there is no such kind".into()),
    }
}

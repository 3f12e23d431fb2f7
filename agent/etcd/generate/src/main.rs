//! Writes the checked-in client code of `primacy-etcd` from its .proto files, without protoc.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = protox::compile(["rpc.proto", "kv.proto"], [here.join("proto")])?;
    let out = here.join("src/proto");
    std::fs::create_dir_all(&out)?;
    tonic_prost_build::configure().build_server(false).build_transport(false).out_dir(out).compile_fds(files)?;
    Ok(())
}

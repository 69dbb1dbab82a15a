//! Generates the wire types and the service from the .proto files, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/edgequota/control/v1/stream.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".edgequota.control.v1")
        .btree_map(".edgequota.control.v1")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}

//! `/openapi.json`, from the same types that are answered.

use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "EdgeQuota control plane",
        description = "Which limit a caller really has and why, what is enforced where, and whether a policy would do."
    ),
    paths(
        super::counters::read,
        super::counters::edit,
        super::counters::reset,
        super::effective::by_query,
        super::effective::by_body,
        super::policy::current,
        super::policy::history,
        super::validate::validate,
        super::fleet::list,
    )
)]
struct Described;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

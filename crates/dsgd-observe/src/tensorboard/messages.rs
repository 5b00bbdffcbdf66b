//! The messages of TensorBoard's files, as far as they are written here, with their public numbers:
//! `event.proto`, `summary.proto`, `tensor.proto` and the hyper-parameters' `plugin_data.proto`.

use std::collections::HashMap;

use prost::{Message, Oneof};

/// `DT_FLOAT` of `types.proto`.
const FLOAT: i32 = 1;

/// `Status` of the hyper-parameters' `api.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Success = 1,
    Failure = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// With the status `START`, a reader forgets what it has seen of this step and later ones.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

impl SessionLog {
    pub(super) const START: Self = Self { status: 1 };
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
    #[prost(oneof = "Figure", tags = "2, 5, 8")]
    pub(super) figure: Option<Figure>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Figure {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "5")]
    Histogram(HistogramProto),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramProto {
    #[prost(double, tag = "1")]
    pub(super) min: f64,
    #[prost(double, tag = "2")]
    pub(super) max: f64,
    #[prost(double, tag = "3")]
    pub(super) num: f64,
    #[prost(double, tag = "4")]
    pub(super) sum: f64,
    #[prost(double, tag = "5")]
    pub(super) sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    pub(super) bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub(super) bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<Dim>,
}

/// A dimension; its size is not written when it is 0.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginData {
    #[prost(string, tag = "1")]
    pub(super) plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct HyperParameters {
    #[prost(oneof = "SessionInfo", tags = "3, 4")]
    session: Option<SessionInfo>,
}

#[derive(Clone, PartialEq, Oneof)]
enum SessionInfo {
    #[prost(message, tag = "3")]
    Start(SessionStart),
    #[prost(message, tag = "4")]
    End(SessionEnd),
}

#[derive(Clone, PartialEq, Message)]
struct SessionStart {
    #[prost(map = "string, message", tag = "1")]
    values: HashMap<String, Setting>,
    #[prost(double, tag = "5")]
    start_time_secs: f64,
}

#[derive(Clone, PartialEq, Message)]
struct SessionEnd {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(double, tag = "2")]
    end_time_secs: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Setting {
    #[prost(oneof = "SettingKind", tags = "2, 3, 4")]
    pub(super) kind: Option<SettingKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum SettingKind {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
}

impl Value {
    pub(super) fn scalar(tag: &str, value: f64) -> Self {
        Self::of(tag, Figure::Simple(value as f32))
    }

    pub(super) fn histogram(tag: &str, histogram: HistogramProto) -> Self {
        Self::of(tag, Figure::Histogram(histogram))
    }

    fn of(tag: &str, figure: Figure) -> Self {
        Self {
            tag: tag.to_owned(),
            metadata: None,
            figure: Some(figure),
        }
    }

    /// The hyper-parameters that a run begins with.
    pub(super) fn session_start(values: HashMap<String, Setting>, start_time_secs: f64) -> Self {
        let start = SessionStart {
            values,
            start_time_secs,
        };
        Self::session("_hparams_/session_start_info", SessionInfo::Start(start))
    }

    /// How and when it ended.
    pub(super) fn session_end(status: Status, end_time_secs: f64) -> Self {
        let end = SessionEnd {
            status: status as i32,
            end_time_secs,
        };
        Self::session("_hparams_/session_end_info", SessionInfo::End(end))
    }

    fn session(tag: &str, session: SessionInfo) -> Self {
        let content = HyperParameters {
            session: Some(session),
        };
        // What counts stands in the metadata; a value must be there all the same.
        let nothing = TensorProto {
            dtype: FLOAT,
            shape: Some(Shape { dim: vec![Dim {}] }),
        };
        Self {
            metadata: Some(Metadata {
                plugin_data: Some(PluginData {
                    plugin_name: "hparams".to_owned(),
                    content: content.encode_to_vec(),
                }),
            }),
            ..Self::of(tag, Figure::Tensor(nothing))
        }
    }
}

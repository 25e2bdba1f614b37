//! What may be wrong with the frames of a connection.

/// Why a connection is ended for its frames.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FrameFault {
    /// Another frame than CONTINUATION within a field block (RFC 9113 §6.2, §6.10).
    BlockCut,
    /// CONTINUATION without a field block that it goes on with (§6.10).
    BlockMissing,
    /// A stream that depends on itself (RFC 7540 §5.3.1). Its field block could not be read any more, and later
    /// ones would be misread.
    DependsOnItself,
    /// A frame longer than it may be (§4.2).
    FrameTooLong,
    /// More padding than frame (§6.1, §6.2).
    Padding,
    /// What a connection begins with is not the preface (§3.4).
    Preface,
    /// The first frame is not SETTINGS (§3.4).
    PrefaceWithoutSettings,
    /// A client that pushes (§8.4).
    Push,
    /// A setting with a value that it cannot have (§6.5.2).
    SettingValue,
    /// A window that begins larger than windows may be (§6.5.2).
    SettingWindow,
    /// A frame that goes on with a request which its client ended (§5.1).
    StreamClosed,
    /// A stream with an even number: clients open odd ones (§5.1.1).
    StreamEven,
    /// A frame of a stream without one (§6.1 to §6.4, §6.10).
    StreamMissing,
    /// A frame of the connection that names a stream (§6.5, §6.7, §6.8).
    StreamNamed,
    /// Too many frames that bring their sender nothing (§10.5).
    TooManyFrames,
    /// Too many requests that were begun to be given up (§10.5, CVE-2023-44487).
    TooManyResets,
    /// Trailers with a pseudo-header field, which h2 would drop without a word (§8.1).
    TrailerPseudo,
    /// A window that grows by nothing (§6.9).
    WindowZero,
    /// A frame of another length than its kind has (§4.2, §6.3 to §6.9).
    WrongLength,
}

/// What a connection ends with (RFC 9113 §7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Code {
    /// `PROTOCOL_ERROR`
    Protocol = 0x1,
    /// `FLOW_CONTROL_ERROR`
    FlowControl = 0x3,
    /// `STREAM_CLOSED`
    StreamClosed = 0x5,
    /// `FRAME_SIZE_ERROR`
    FrameSize = 0x6,
    /// `ENHANCE_YOUR_CALM`
    EnhanceYourCalm = 0xb,
}

impl FrameFault {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::BlockCut,
        Self::BlockMissing,
        Self::DependsOnItself,
        Self::FrameTooLong,
        Self::Padding,
        Self::Preface,
        Self::PrefaceWithoutSettings,
        Self::Push,
        Self::SettingValue,
        Self::SettingWindow,
        Self::StreamClosed,
        Self::StreamEven,
        Self::StreamMissing,
        Self::StreamNamed,
        Self::TooManyFrames,
        Self::TooManyResets,
        Self::TrailerPseudo,
        Self::WindowZero,
        Self::WrongLength,
    ];

    /// What the log and the metric call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlockCut => "block_cut",
            Self::BlockMissing => "block_missing",
            Self::DependsOnItself => "depends_on_itself",
            Self::FrameTooLong => "frame_too_long",
            Self::Padding => "padding",
            Self::Preface => "preface",
            Self::PrefaceWithoutSettings => "preface_without_settings",
            Self::Push => "push",
            Self::SettingValue => "setting_value",
            Self::SettingWindow => "setting_window",
            Self::StreamClosed => "stream_closed",
            Self::StreamEven => "stream_even",
            Self::StreamMissing => "stream_missing",
            Self::StreamNamed => "stream_named",
            Self::TooManyFrames => "too_many_frames",
            Self::TooManyResets => "too_many_resets",
            Self::TrailerPseudo => "trailer_pseudo",
            Self::WindowZero => "window_zero",
            Self::WrongLength => "wrong_length",
        }
    }

    /// The error code that says so to the client.
    pub fn code(self) -> Code {
        match self {
            Self::FrameTooLong | Self::WrongLength => Code::FrameSize,
            Self::SettingWindow => Code::FlowControl,
            Self::StreamClosed => Code::StreamClosed,
            Self::TooManyFrames | Self::TooManyResets => Code::EnhanceYourCalm,
            Self::BlockCut
            | Self::BlockMissing
            | Self::DependsOnItself
            | Self::Padding
            | Self::Preface
            | Self::PrefaceWithoutSettings
            | Self::Push
            | Self::SettingValue
            | Self::StreamEven
            | Self::StreamMissing
            | Self::StreamNamed
            | Self::TrailerPseudo
            | Self::WindowZero => Code::Protocol,
        }
    }
}

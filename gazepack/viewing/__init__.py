"""What people look at: sheets, films and pages of a sample, and the report of a dataset."""

from gazepack.viewing.page import write_page
from gazepack.viewing.pictures import write_film, write_sheet
from gazepack.viewing.report import write_report
from gazepack.viewing.scene import Scene, find_listing, find_row, find_segment

__all__ = [
    "Scene",
    "find_listing",
    "find_row",
    "find_segment",
    "write_film",
    "write_page",
    "write_report",
    "write_sheet",
]

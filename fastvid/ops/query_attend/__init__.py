from fastvid.ops.query_attend.center import peak_to_center
from fastvid.ops.query_attend.op import query_attend

__all__ = ["peak_to_center", "query_attend"]

# Cascade Mask R-CNN in the style of ViTDet: three box heads with rising IoU thresholds.
#
# The paper's numbers come from detectron2's cascade, from which mmdet's differs:
# - Losses of the stages: detectron2 sums them and scales the gradient into the RoI features by 1/3.
#   The loss weights below give the features the same gradient. They also scale the gradients of the
#   heads themselves, to which AdamW is invariant.
# - Changed here to detectron2's values: L1 box losses (mmdet's cascade: smooth L1) and 1000
#   proposals in training (mmdet's cascade: 2000).
# - Hard-wired in mmdet, so kept: one mask head in each stage (detectron2: a single one, on the
#   proposals of the first stage), which costs 5.3 M parameters and with the weights above counts as
#   one in the loss; and every stage samples 512 boxes anew (detectron2: only the first).
_base_ = 'mask_rcnn_simple_fpn.py'

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1 / 3] * 3,
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                reg_class_agnostic=True,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stds
                ),
            )
            for stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                _base_.model.train_cfg.rcnn,
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
)
